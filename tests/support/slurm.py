"""A Slurm of one node on this machine: munge, MariaDB, slurmdbd, slurmctld and slurmd, as root.

They keep all files in one folder and end with the block. They listen on all addresses: `make
test-cluster` starts the tests where there is only the loopback.
"""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

CONF = """ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={controller}
SlurmdPort={node}
AuthInfo=socket={folder}/munge.sock
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
MpiDefault=none
KillWait=20
SchedulerParameters=sched_interval=2,batch_sched_delay=1
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={database}
AccountingStoragePass={folder}/munge.sock
NodeName=node1 NodeHostname=localhost NodeAddr=127.0.0.1 CPUs=4 RealMemory=8000
PartitionName=main Nodes=node1 Default=YES MaxTime=INFINITE
"""
DATABASE_CONF = """AuthInfo=socket={folder}/munge.sock
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={database}
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={mariadb}
StorageUser=slurm
StoragePass=slurm
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
"""


def free_port(address: str = "127.0.0.1") -> int:
    with socket.socket() as listener:
        listener.bind((address, 0))
        port: int = listener.getsockname()[1]
        return port


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain"
        time.sleep(0.2)


def succeeds(*command: str) -> bool:
    return subprocess.run(command, capture_output=True).returncode == 0


@contextlib.contextmanager
def running_slurm(folder: Path) -> Iterator[None]:
    """Slurm in the block; SLURM_CONF in the environment leads to it."""
    names = ("controller", "node", "database", "mariadb")
    ports = {name: free_port() for name in names}
    for name in ("state", "spool", "mariadb"):
        (folder / name).mkdir()
    for name, text in {"slurm.conf": CONF, "slurmdbd.conf": DATABASE_CONF}.items():
        (folder / name).write_text(text.format(folder=folder, **ports))
        (folder / name).chmod(0o600)
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o400)
    data, mysql = f"--datadir={folder}/mariadb", f"--socket={folder}/mariadb.sock"
    mariadb = ["mariadbd", "--no-defaults", "--user=root", data, mysql, "--bind-address=127.0.0.1"]
    mariadb += [f"--port={ports['mariadb']}", f"--pid-file={folder}/mariadb.pid"]
    sql = "CREATE USER slurm@'%' IDENTIFIED BY 'slurm'; GRANT ALL ON *.* TO slurm@'%'"
    install = ["mariadb-install-db", "--no-defaults", "--user=root", data]
    subprocess.run([*install, "--skip-test-db"], check=True, capture_output=True)
    munge = ["munged", "--foreground", "--force", f"--socket={folder}/munge.sock"]
    munge += [f"--{name}-file={folder}/munge.{name}" for name in ("key", "log", "pid", "seed")]
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    with contextlib.ExitStack() as stack:
        stack.callback(os.environ.pop, "SLURM_CONF")

        def start(*command: str) -> None:
            log = stack.enter_context((folder / f"{command[0]}.out").open("w"))
            process = subprocess.Popen(command, stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.terminate)

        start(*munge)
        start(*mariadb)
        client = ["mariadb", "--no-defaults", "--user=root", mysql, "--execute"]
        wait_for(lambda: succeeds(*client, "SELECT 1"))
        subprocess.run([*client, sql], check=True)
        start("slurmdbd", "-D")
        wait_for(lambda: succeeds("sacctmgr", "--immediate", "add", "cluster", "test"))
        start("slurmctld", "-D", "-c")
        start("slurmd", "-D", "-N", "node1")
        wait_for(lambda: succeeds("srun", "--immediate=5", "true"))
        stack.callback(end_jobs)
        yield


def end_jobs() -> None:
    """Cancel all jobs: their processes would outlive Slurm's."""
    subprocess.run(["scancel", "--partition=main"], check=True)
    left = ["squeue", "--noheader"]
    wait_for(lambda: not subprocess.run(left, capture_output=True, check=True).stdout, 120)
