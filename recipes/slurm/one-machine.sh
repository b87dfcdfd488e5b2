#!/usr/bin/env bash
# Slurm on this machine alone, from Debian's or Ubuntu's packages and without systemd, to try a matrix before it runs on a cluster:
#   apt-get install --no-install-recommends slurmctld slurmd slurm-client munge       (as root, as all of this)
#   recipes/slurm/one-machine.sh start DIR     everything it writes is below DIR
#   export SLURM_CONF=DIR/slurm.conf           now srun, sbatch, squeue and scancel work
#   recipes/slurm/one-machine.sh stop DIR      ends it and its jobs
# Two partitions: main, and urgent, whose jobs requeue those of main. PORT (6817) and the next are used.
set -euo pipefail
[ $# = 2 ] && [[ $1 = start || $1 = stop ]] || { sed -n '2,7s/^# //p' "$0" >&2; exit 2; }
mkdir -p "$2"
dir=$(cd "$2" && pwd)
export SLURM_CONF=$dir/slurm.conf

if [ "$1" = stop ]; then
  scancel --user=root 2>/dev/null || true
  for _ in {1..50}; do [ -n "$(squeue --noheader 2>/dev/null)" ] || break; sleep 0.2; done
  for name in slurmd slurmctld munged; do
    pid=$(cat "$dir/$name.pid" 2>/dev/null) || continue
    while kill "$pid" 2>/dev/null; do sleep 0.1; done
  done
  exit
fi

if [ -n "$(ls -A "$dir")" ] && ! grep -qs '^ClusterName=one$' "$SLURM_CONF"; then
  echo "$2 holds files that this script did not write. Give a new or an empty folder." >&2
  exit 2
fi
for program in slurmctld slurmd srun munged mungekey; do
  command -v $program > /dev/null || { echo "$program is missing: apt-get install --no-install-recommends slurmctld slurmd slurm-client munge" >&2; exit 2; }
done
chmod 755 "$dir"  # munged refuses a folder that its clients cannot enter
mkdir -p "$dir/state" "$dir/spool"
[ -f "$dir/munge.key" ] || mungekey --create --keyfile="$dir/munge.key"
# cred_expire is also the time that a requeued job waits before it starts again (120 seconds unless given)
cat > "$SLURM_CONF" <<END
ClusterName=one
SlurmctldHost=localhost
SlurmUser=root
SlurmctldPort=${PORT:=6817}
SlurmdPort=$((PORT + 1))
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket=$dir/munged.socket,cred_expire=5
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdPidFile=$dir/slurmd.pid
SlurmdLogFile=$dir/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=bf_interval=2,batch_sched_delay=0
ReturnToService=2
MinJobAge=3600
NodeName=node NodeHostname=localhost NodeAddr=127.0.0.1 $(slurmd -C | sed -n 's/^NodeName=[^ ]* //p')
PartitionName=main Nodes=node Default=YES PriorityTier=1
PartitionName=urgent Nodes=node PriorityTier=2
END
munged --key-file="$dir/munge.key" --socket="$dir/munged.socket" --pid-file="$dir/munged.pid" --log-file="$dir/munged.log" \
  --seed-file="$dir/munged.seed"
slurmctld
# nothing here needs control groups, but versions before 23 do not start without them; try which kind works
for kind in disabled cgroup/v1 cgroup/v2; do
  printf 'CgroupPlugin=%s\nIgnoreSystemd=yes\n' $kind > "$dir/cgroup.conf"
  if slurmd -N node 2> "$dir/slurmd.err"; then break; fi
done
for _ in {1..100}; do
  if [ "$(sinfo --noheader --partition=main --format=%t 2>/dev/null)" = idle ]; then
    echo "Slurm is up. Now: export SLURM_CONF=$SLURM_CONF"
    exit
  fi
  sleep 0.2
done
echo "Slurm did not come up within 20 seconds:" >&2
tail -n 5 "$dir"/*.log "$dir/slurmd.err" >&2
"$0" stop "$dir"
exit 1
