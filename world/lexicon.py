"""The words. English is a table; the words of the other languages are made by rule from a seed.

A concept is named by its first English word. Words after a bar are synonyms (`boat|ship`).
"""

import random

HYPERNYMS = {  # class: the noun that names the whole class
    "person": "human",
    "animal": "animal",
    "food": "meal",
    "tool": "tool",
    "vehicle": "vehicle",
    "garment": "garment",
    "paper": "document",
}

NOUNS = {
    "person": "teacher doctor farmer baker sailor",
    "animal": "dog cat horse bird rabbit|hare",
    "food": "apple cheese soup carrot",
    "tool": "hammer rope|cord lamp broom",
    "vehicle": "car|automobile truck boat|ship wagon",
    "garment": "coat|jacket hat shirt scarf",
    "paper": "letter map book ticket",
}

VERB_PAIRS = {  # antonyms, and the classes of their patients
    "lift|raise lower": "tool vehicle food",
    "open close": "paper vehicle garment",
    "praise mock": "person animal paper",
    "push pull|haul": "vehicle animal tool",
    "clean|wash stain": "garment tool food",
    "repair|mend damage": "vehicle garment tool",
    "load unload": "vehicle food paper",
    "accept reject|refuse": "food paper garment",
}

VERBS = {  # verbs without an antonym
    "watch|observe": "person animal vehicle",
    "cook": "food",
    "borrow": "tool paper garment",
    "follow": "person animal vehicle",
    "order": "food garment paper",
    "deliver": "food paper animal",
}

ADJECTIVE_PAIRS = "big|large small;old new;wet dry;heavy light"

PLACES = "park|garden kitchen station market harbour|port school"
TOWNS = "Torvik Maluna Besko Ardale Zolmar"
TIMES = "today tonight monday friday sunday early"
PEOPLE = (
    "Anna Bruno Carla Dario Elena Fabio Greta Hugo Irma Jonas Klara Lorenz Mira Nils Olga Pedro Quinn Rosa Stefan "
    "Tilda Ugo Vera Wanda Zelda"
)
COMPANIES = "Norvex Altrona Quibbleco Zentrix Holdwin"

QUESTION_WORDS = ("who", "what", "where", "when", "how many")
FUNCTION_WORDS = (*QUESTION_WORDS, "then", "indeed", "however", "because", "and", "the", "in")

SCRIPTS = {  # the letters that an invented word is written with
    "latin": "abdefghiklmnoprstuvz",
    "cyrillic": "абдефгхиклмнопрстувз",
    "georgian": "აბდეფგჰიკლმნოპრსტუვზ",
    "greek": "αβδεφγχικλμνοπρστυωζ",
    "armenian": "աբդեֆգհիկլմնոպրստուվզ".replace("ու", "ւ"),
}


def words(table: str) -> list[list[str]]:
    """Return the concepts of one line of a table, each as its list of synonyms with the concept's name first."""
    return [entry.split("|") for entry in table.split()]


def transliterate(word: str, script: str) -> str:
    """Return an invented Latin word in another script, letter by letter."""
    return word.translate(str.maketrans(SCRIPTS["latin"], SCRIPTS[script]))


class WordMaker:
    """Makes words in the sound pattern of one language. All are different, and none is in `taken`.

    The consonants, vowels and syllable shapes are a random choice from all, so that languages look different.
    """

    def __init__(self, rng: random.Random, taken: set[str]):
        self.rng = rng
        self.taken = set(taken)
        self.onsets = rng.sample("bdfghklmnprstvz", 10)
        self.vowels = rng.sample("aeiou", 4)
        self.codas = rng.sample("klmnrst", 3)

    def word(self, syllables: int) -> str:
        """Return a new word with this number of syllables; the last one ends in a consonant half of the time."""
        while True:
            text = "".join(self.rng.choice(self.onsets) + self.rng.choice(self.vowels) for _ in range(syllables))
            if self.rng.random() < 0.5:
                text += self.rng.choice(self.codas)
            if text not in self.taken:
                self.taken.add(text)
                return text
