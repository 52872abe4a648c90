"""The script with which SLURM runs a sweep as an array of workers that share one store."""

import shlex


def slurm_script(name: str, profile: str, store: str, workers: int, hours: float, gpus: int) -> str:
    """A batch script: every worker takes runs that no other has, and leaves when there are none, or before its time.

    Submit it again, and workers go on where the last ones ended. Any other scheduler can start the same command on as
    many machines as there are.

    Args:
        name: of the sweep.
        profile: its name.
        store: folder that all workers see, or an address of fsspec.
        workers: tasks of the array.
        hours: that SLURM gives each of them.
        gpus: of each worker.

    >>> print(slurm_script("gpu", "paper", "store", workers=4, hours=12, gpus=1).splitlines()[-1])
    python -m splinestudy sweep gpu --profile paper --store store --no-wait --budget 42300s
    """
    seconds = round(3600 * hours)
    clock = f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    # A quarter of an hour, or of a short time, is left for the run under way, which a checkpoint carries on.
    budget = seconds - min(900, seconds // 4)
    lines = [
        "#!/bin/bash",
        f"#SBATCH --job-name={name}-{profile}",
        f"#SBATCH --array=1-{workers}",
        f"#SBATCH --time={clock}",
        "#SBATCH --cpus-per-task=4",
        *([f"#SBATCH --gpus-per-task={gpus}"] if gpus else []),
        "#SBATCH --requeue",
        "export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}",
        f"python -m splinestudy sweep {name} --profile {profile} --store {shlex.quote(store)} --no-wait "
        f"--budget {budget}s",
    ]
    return "\n".join(lines) + "\n"
