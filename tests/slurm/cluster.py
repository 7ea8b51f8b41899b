"""A Slurm cluster of one node with four fake GPUs, for the tests: as root on Debian, without systemd.

    python tests/slurm/cluster.py install     apt: slurmctld, slurmd, slurm-client, munge
    python tests/slurm/cluster.py start|stop

The GPUs are device files that lead nowhere: Slurm hands them out, and nothing can compute on them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path("/var/tmp/chelate-slurm")
CONFIG = Path("/etc/slurm")
GPUS = 4
ASKED = "CHELATE_TEST_SLURM"
PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
MARK = "# written by chelate's tests"

# cred_expire: a job that was requeued waits for it, two minutes by default.
# config_overrides: more CPUs than there are, so that the jobs fit beside the one that pre-empts.
SLURM_CONF = """{mark}
ClusterName=chelate
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
AuthInfo=cred_expire=5
CryptoType=crypto/munge
SlurmUser=root
SlurmdUser=root
SlurmctldPort=16827
SlurmdPort=16828
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
SlurmctldLogFile={root}/log/slurmctld.log
SlurmdLogFile={root}/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
SlurmdParameters=config_overrides
JobRequeue=1
KillWait=5
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=1000 Gres=gpu:{gpus} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=60 PriorityTier=1 PreemptMode=REQUEUE GraceTime=30
PartitionName=urgent Nodes={host} MaxTime=60 PriorityTier=10 PreemptMode=OFF
"""


def run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def install() -> None:
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    if shutil.which("slurmctld") is None:
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        packages = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES]
        subprocess.run(packages, check=True, env=env, stdout=subprocess.DEVNULL)


def start() -> None:
    """From nothing: state of an earlier cluster would not fit."""
    stop()
    config = CONFIG / "slurm.conf"
    if config.exists() and MARK not in config.read_text():
        raise SystemExit(f"{config} is not ours: this machine has a Slurm of its own.")
    shutil.rmtree(ROOT, ignore_errors=True)
    for name in ("log", "spool", "state"):
        (ROOT / name).mkdir(parents=True)
    for number in range(GPUS):  # the same device as /dev/null
        os.mknod(ROOT / f"gpu{number}", 0o666 | 0o020000, os.makedev(1, 3))
    host = socket.gethostname().partition(".")[0]
    CONFIG.mkdir(exist_ok=True)
    config.write_text(SLURM_CONF.format(mark=MARK, host=host, root=ROOT, gpus=GPUS))
    files = f"{ROOT}/gpu[0-{GPUS - 1}]"
    (CONFIG / "gres.conf").write_text(
        f"{MARK}\nAutoDetect=off\nNodeName={host} Name=gpu File={files}\n"
    )
    if subprocess.run(["pgrep", "-x", "munged"], stdout=subprocess.DEVNULL).returncode != 0:
        for folder in ("/run/munge", "/var/log/munge", "/var/lib/munge"):
            run("install", "-d", "-o", "munge", "-g", "munge", "-m", "755", folder)
        run("su", "-s", "/bin/sh", "munge", "-c", "/usr/sbin/munged")
    start_controller()
    run("/usr/sbin/slurmd", "-N", host)
    until_idle()


def missing() -> str:
    """Why there is no cluster to test on; "" if there is one, and it is ours, and it was asked for."""
    if shutil.which("sbatch") is None:
        return "no Slurm: `python tests/slurm/cluster.py install` and `start`, as root on Debian"
    config = CONFIG / "slurm.conf"
    if not config.exists() or MARK not in config.read_text():
        return "no test cluster: `python tests/slurm/cluster.py start`"
    if not node_state():
        return "the test cluster does not answer: start it again"
    # One test at a time has the cluster for itself.
    return (
        ""
        if os.environ.get(ASKED)
        else f"not asked for: {ASKED}=1, one process (`make test-slurm`)"
    )


def jobs() -> list[list[str]]:
    """[job, state, partition] of all that have not ended."""
    told = run("squeue", "--noheader", "--array", "--format=%i %T %P")
    return [line.split() for line in told.splitlines()]


def cancel_all() -> None:
    run("scancel", "--user=root")
    end = time.monotonic() + 20
    while jobs() and time.monotonic() < end:
        time.sleep(0.1)


def start_controller() -> None:
    run("/usr/sbin/slurmctld")


def until_idle(seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while "idle" not in node_state():
        if time.monotonic() > end:
            raise SystemExit(f"the node does not come up: {node_state()}; logs in {ROOT}/log")
        time.sleep(0.1)


def node_state() -> str:
    with contextlib.suppress(subprocess.SubprocessError, OSError):
        asked = ["sinfo", "--noheader", "--format=%T"]
        return subprocess.run(asked, capture_output=True, text=True, timeout=5).stdout.strip()
    return ""


def daemon(name: str) -> int | None:
    """The pid of slurmctld or slurmd of ours, if it lives."""
    try:
        pid = int((ROOT / f"{name}.pid").read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if name.encode() in words else None


def kill_controller() -> None:
    """As a crash would: no state is saved."""
    pid = daemon("slurmctld")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    while daemon("slurmctld") is not None:
        time.sleep(0.01)


def stop() -> None:
    for name in ("slurmd", "slurmctld"):
        pid = daemon(name)
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + 10
        while daemon(name) is not None and time.monotonic() < end:
            time.sleep(0.05)


if __name__ == "__main__":
    {"install": install, "start": start, "stop": stop}[sys.argv[1]]()
