"""A real Slurm of one node, on loopback: controller, node and munge as processes of ours."""

import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
COMMANDS = ("sbatch", "squeue", "scancel", "scontrol", "sinfo", "munge")

CONF = """\
ClusterName=t
SlurmctldHost=localhost
SlurmUser={user}
SlurmdUser={user}
AuthInfo=socket={folder}/munge.sock,cred_expire=5
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.log
ProctrackType=proctrack/pgid
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
KillWait=5
MailProg=/bin/true
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=0,batch_sched_delay=0
NodeName=localhost CPUs=8 RealMemory=64000
PartitionName=test Nodes=localhost Default=YES MaxTime=INFINITE
"""


def missing():
    """Programs of Slurm and munge that are not installed here."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return [name for name in (*DAEMONS, *COMMANDS) if not shutil.which(name, path=path)]


class Slurm:
    """A Slurm to submit to; use as a context manager."""

    def __init__(self):
        # Not below pytest's own: munge wants its socket where everybody may go.
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        self.env = {
            **os.environ,
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin",
        }
        self.daemons = []

    def __enter__(self):
        for name in ("state", "spool", "log"):
            (self.folder / name).mkdir()
        self.folder.chmod(0o755)
        ports = []
        for _ in range(2):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                ports.append(free.getsockname()[1])
        conf = CONF.format(folder=self.folder, user=getpass.getuser(), ports=ports)
        (self.folder / "slurm.conf").write_text(conf)
        key = self.folder / "key"
        key.touch(0o600)
        key.write_bytes(secrets.token_bytes(128))
        try:
            self._start_daemons()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start_daemons(self):
        place = self.folder
        self._start(
            *("munged", "-F", f"--key-file={place}/key", f"--socket={place}/munge.sock"),
            *(f"--pid-file={place}/munged.pid", f"--log-file={place}/log/munged.log"),
            f"--seed-file={place}/seed",
        )
        self.wait(lambda: self._run("munge", "-S", place / "munge.sock", "-n").returncode == 0)
        self._start("slurmctld", "-D")
        self._start("slurmd", "-D", "-N", "localhost")
        self.wait(lambda: self._run("sinfo", "-h", "-o", "%T").stdout.strip() == "idle")

    def __exit__(self, *exception):
        if len(self.daemons) == len(DAEMONS):
            self._run("scancel", "-u", getpass.getuser())
            self.wait(lambda: not self._run("squeue", "-h").stdout.strip())
        for daemon in reversed(self.daemons):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        shutil.rmtree(self.folder)

    def _start(self, *words):
        with (self.folder / "log" / f"{words[0]}.out").open("w") as log:
            self.daemons.append(subprocess.Popen(words, stdout=log, stderr=log, env=self.env))

    def _run(self, *words, **options):
        return subprocess.run(
            [*map(str, words)],
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            **options,
        )

    def ask(self, *words, **options):
        """What a command of Slurm's says."""
        ended = self._run(*words, **options)
        assert ended.returncode == 0, (words, ended.stderr)
        return ended.stdout.strip()

    def submit(self, script, *words, cwd):
        """Submit a script; its job's number."""
        return self.ask("sbatch", "--parsable", script, *words, cwd=cwd)

    def state(self, job):
        """State of a job or of an array's task; empty once it is gone."""
        return self._run("squeue", "-h", "-j", job, "-o", "%T").stdout.strip()

    def wait(self, condition, seconds=90):
        """Wait until something is so."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.1)

    def logs(self):
        """What the daemons have said."""
        return "\n".join(path.read_text() for path in sorted((self.folder / "log").iterdir()))
