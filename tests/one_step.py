"""One optimiser step (SGD, no dropout) of every head on the same 16 rows, however they are cut into batches."""

import tempfile

ROWS = 16
TASKS = {"SeqCls": "xnli", "TokenCls": "udpos", "QA": "squad", "MultipleChoice": "hellaswag", "MaskedLM": None}


def features(head: str, vocabulary: int):
    """16 rows of unlike lengths and, for tokens, unlike numbers of labels: so that a mean of means would be wrong."""
    import torch
    from datasets import Dataset

    draw = torch.Generator().manual_seed(1)

    def tokens(n):
        return torch.randint(5, vocabulary, (n,), generator=draw).tolist()

    def number(high):
        return int(torch.randint(high, (1,), generator=draw))

    rows = []
    for i in range(ROWS):
        n = 4 + (7 * i) % 13
        ids = [tokens(n) for _ in range(4)] if head == "MultipleChoice" else tokens(n)
        mask = [[1] * n for _ in ids] if head == "MultipleChoice" else [1] * n
        labels = {
            "SeqCls": lambda n: number(3),
            "MultipleChoice": lambda n: number(4),
            "QA": lambda n: sorted((number(n), number(n))),
            "TokenCls": lambda n: [number(17) if number(2) else -100 for _ in range(n - 1)] + [3],
            "MaskedLM": lambda n: [number(vocabulary) if number(4) == 0 else -100 for _ in range(n - 1)] + [7],
        }[head](n)
        rows.append({"input_ids": ids, "attention_mask": mask, "labels": labels, "length": n})
    return Dataset.from_list(rows)


def one_step(head: str, model_folder: str, batch: int, accumulation: int):
    """(the loss as logged, {name: weight after the step})."""
    import torch
    from transformers import AutoTokenizer, DataCollatorForTokenClassification, set_seed

    from tasks import get_task
    from xstilts.checkpoint import heads
    from xstilts.cli.arguments import RunArguments
    from xstilts.train import trainers
    from xstilts.train.training_arguments import training_arguments

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    set_seed(0)
    if head == "MaskedLM":
        model, collator = heads.masked_lm(model_folder), DataCollatorForTokenClassification(tokenizer)
        model.accepts_loss_kwargs = False
    else:
        task = get_task(TASKS[head])
        model, collator = heads.fresh_head(task, model_folder), task.collator(tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        args = training_arguments(
            RunArguments(output_dir=folder),
            [],
            {
                "per_device_train_batch_size": batch,
                "gradient_accumulation_steps": accumulation,
                "learning_rate": 0.5,
                "optim": "sgd",
                "lr_scheduler_type": "constant",
                "max_grad_norm": 0.0,
                "max_steps": 1,
                "logging_steps": 1,
                "bf16": False,
                "use_cpu": True,
                "save_strategy": "no",
                "disable_tqdm": True,
            },
        )
        trainer = trainers.TaskTrainer(
            model=model,
            args=args,
            train_dataset=features(head, model.config.vocab_size),
            data_collator=collator,
            processing_class=tokenizer,
        )
        trainer.train()
    assert args.world_size * batch * accumulation >= ROWS
    loss = next(entry["loss"] for entry in trainer.state.log_history if "loss" in entry)
    return loss, {
        name: weight.detach().clone() for name, weight in model.state_dict().items() if weight.dtype == torch.float32
    }
