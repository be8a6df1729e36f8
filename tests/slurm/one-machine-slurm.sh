#!/usr/bin/env bash
# A real one-machine Slurm without systemd, wholly under one private directory.
#   one-machine-slurm.sh start|stop|status|env      (start and stop are idempotent; any user)
# start prints the path for SLURM_CONF. Exit 0 ok; 77 not possible here (reason on stderr); 1 failed.
# Env: SLURM_TEST_DIR (short! unix socket < 108 chars), SLURM_TEST_CPUS (4, may exceed the real ones),
#      SLURM_TEST_GPUS (2, fake), SLURM_TEST_OWNER (pid: stop by itself when that process is gone)
set -euo pipefail
DIR=${SLURM_TEST_DIR:-/tmp/one-machine-slurm/run}
CPUS=${SLURM_TEST_CPUS:-4}
GPUS=${SLURM_TEST_GPUS:-2}
CONF=$DIR/etc/slurm.conf
NODES=(cpu1 gpu1)
export SLURM_CONF=$CONF PATH=$PATH:/usr/sbin:/sbin

skip() { echo "slurm not possible here: $*" >&2; exit 77; }
fail() { echo "slurm: $*" >&2; tail -n 15 "$DIR"/log/*.log >&2 2>/dev/null || true; exit 1; }
ours() { tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline" | grep -qF "$DIR/"; }  # false for a zombie
gone() { ! ours "$1"; }
mine() {  # mine PIDFILE -> the pid, if that process lives and its command line names our directory
  local p; p=$(cat "$1" 2>/dev/null) && [[ $p =~ ^[0-9]+$ ]] && ours "$p" && echo "$p"
}
wait_for() {  # wait_for SECONDS CMD...
  local end=$((SECONDS + $1)); shift
  until "$@" >/dev/null 2>&1; do ((SECONDS <= end)) || return 1; sleep 0.1; done
}
free_ports() {
  python3 -c 'import socket,sys
s=[socket.create_server(("127.0.0.1",0)) for _ in range(int(sys.argv[1]))]
print(*[x.getsockname()[1] for x in s])' "$1"
}
nodes_up() { [ "$(sinfo -h -N -o '%N %T' | sort -u | grep -cE ' (idle|mixed|allocated|completing)$')" -eq ${#NODES[@]} ]; }
no_jobs()  { local q; q=$(squeue -h -o %i) && [ -z "$q" ]; }

orphans() {  # job processes and slurmstepds of ours that a crash of the daemons left behind
  local e p
  for e in $(grep -lzxF "SLURM_CONF=$CONF" /proc/[0-9]*/environ 2>/dev/null); do
    p=${e#/proc/}; p=${p%/environ}
    if [[ $(readlink "/proc/$p/exe") == */slurmstepd* ]] || grep -qz '^SLURM_JOB_ID=' "$e" 2>/dev/null; then echo "$p"; fi
  done
}

write_conf() {
  local host mem me i p0 p1 p2 dev=(null zero full random urandom)
  read -r p0 p1 p2 < <(free_ports 3)
  host=$(hostname -s) me=$(id -un) mem=$(awk '/MemTotal/{print int($2/1024)}' /proc/meminfo)
  cat >"$CONF" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$p0
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser=$me
SlurmdUser=$me
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$DIR/munge/socket,cred_expire=5
StateSaveLocation=$DIR/state
SlurmdSpoolDir=$DIR/spool/%n
SlurmctldPidFile=$DIR/pid/slurmctld
SlurmdPidFile=$DIR/pid/slurmd.%n
SlurmctldLogFile=$DIR/log/slurmctld.log
SlurmdLogFile=$DIR/log/slurmd.%n.log
PlugStackConfig=$DIR/etc/plugstack.conf
MailProg=/bin/true
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$DIR/log/jobcomp.txt
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0,sched_min_interval=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
# 1: a node that is set down stays so; one whose slurmd was gone for a while is back with it
ReturnToService=1
SlurmdTimeout=30
SlurmctldTimeout=30
KillWait=2
OverTimeLimit=0
PropagateResourceLimits=NONE
GresTypes=gpu
NodeName=cpu1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$p1 CPUs=$CPUS RealMemory=$mem State=UNKNOWN
NodeName=gpu1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$p2 CPUs=$CPUS RealMemory=$mem Gres=gpu:fake:$GPUS State=UNKNOWN
PartitionName=debug Nodes=cpu1 Default=YES MaxTime=INFINITE State=UP DefMemPerCPU=512 PriorityTier=10 PreemptMode=OFF
PartitionName=scavenge Nodes=cpu1 MaxTime=INFINITE State=UP DefMemPerCPU=512 PriorityTier=1 PreemptMode=REQUEUE
PartitionName=gpu Nodes=gpu1 MaxTime=INFINITE State=UP DefMemPerCPU=512 PriorityTier=10 PreemptMode=OFF
CONF
  : >"$DIR/etc/plugstack.conf"
  echo CgroupAutomount=no >"$DIR/etc/cgroup.conf"
  for ((i = 0; i < GPUS; i++)); do   # a char device each: plain files leave CUDA_VISIBLE_DEVICES empty
    echo "NodeName=gpu1 Name=gpu Type=fake File=/dev/${dev[i]}"
  done >"$DIR/etc/gres.conf"
}

start() {
  local b n
  for b in munged munge slurmctld slurmd sbatch squeue scancel sinfo scontrol; do
    command -v $b >/dev/null || skip "no '$b' (as root: apt-get install --no-install-recommends slurm-wlm munge)"
  done
  [ ${#DIR} -le 80 ] || skip "SLURM_TEST_DIR is too long for a unix socket: $DIR"
  ((GPUS <= 5)) || skip "at most 5 fake gpus"
  if mine "$DIR/pid/slurmctld" >/dev/null && wait_for 5 nodes_up; then echo "$CONF"; return; fi
  stop
  rm -rf "$DIR/etc" "$DIR/log"
  (umask 022; mkdir -p "$DIR"/{etc,log,pid,munge,spool}; umask 077; mkdir "$DIR/state"
   head -c 1024 /dev/urandom >"$DIR/munge/key")
  cd "$DIR"; write_conf
  # 9>&-: a daemon that kept the lock's descriptor would hold the lock for ever
  munged --force --key-file="$DIR/munge/key" --socket="$DIR/munge/socket" --pid-file="$DIR/pid/munged" \
    --log-file="$DIR/log/munged.log" --seed-file="$DIR/munge/seed" \
    9>&- </dev/null >"$DIR/log/munged.out.log" 2>&1 || fail "munged did not start"
  wait_for 5 munge -n -S "$DIR/munge/socket" || fail "munged does not answer"
  slurmctld -f "$CONF" 9>&- </dev/null >"$DIR/log/slurmctld.out.log" 2>&1 || fail "slurmctld did not start"
  wait_for 10 scontrol ping || fail "slurmctld does not answer"
  for n in "${NODES[@]}"; do
    slurmd -N "$n" -f "$CONF" 9>&- </dev/null >"$DIR/log/slurmd.$n.out.log" 2>&1 || fail "slurmd $n did not start"
  done
  wait_for 20 nodes_up || { sinfo -N -l >&2 || true; fail "nodes did not come up"; }
  if [ -n "${SLURM_TEST_OWNER:-}" ]; then
    setsid bash -c 'while kill -0 "$1" && [ -d "$2/pid" ]; do sleep 1; done; [ ! -d "$2/pid" ] || "$3" stop' \
      - "$SLURM_TEST_OWNER" "$DIR" "$SELF" 9>&- </dev/null >/dev/null 2>&1 &
  fi
  echo "$CONF"
}

stop() {
  local p f
  [ -d "$DIR" ] || return 0
  if mine "$DIR/pid/slurmctld" >/dev/null; then     # jobs first: slurmstepd and jobs outlive slurmd
    timeout 10 scancel -u "$(id -un)" >/dev/null 2>&1 || true
    wait_for 15 no_jobs || true
  fi
  for f in "$DIR"/pid/slurmd.* "$DIR/pid/slurmctld" "$DIR/pid/munged"; do
    p=$(mine "$f") || continue
    kill -TERM "$p" 2>/dev/null || true
    wait_for 10 gone "$p" || kill -KILL "$p" 2>/dev/null || true
  done
  for p in $(orphans); do kill -KILL "$p" 2>/dev/null || true; done
  rm -rf "$DIR/state" "$DIR/spool" "$DIR/pid" "$DIR/munge"     # logs and etc stay to be read
}

SELF=$(readlink -f "$0")
mkdir -p "$(dirname "$DIR")"
case ${1:-} in
  start|stop) exec 9>"$DIR.lock"; flock -w 120 9 || fail "locked by another start or stop"; "$1" ;;
  status) sinfo -N -l && squeue ;;
  env) echo "export SLURM_CONF=$CONF" ;;
  *) sed -n 2,6p "$0"; exit 2 ;;
esac
