"""The checkpoints of runs: how to find and read them. Reading needs no Lightning."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from iris_lightning.errors import UserError
from iris_lightning.runs.folders import RUNS, newest_run
from iris_lightning.weights.reading import Weights, read_torch, weights_of

__all__ = ["epochs_done", "find_checkpoint", "folder_of", "read_checkpoint", "read_trained", "run_of", "weights_in"]

ENTRIES = ("state_dict", "hyper_parameters", "loops")
# Which a checkpoint of a user's own Trainer may lack, if it had other data, or saved weights only.
FURTHER = ("datamodule_hyper_parameters", "trained_on", "callbacks", "metrics", "callback_metrics")
SHAPE = ("feature_names", "class_names", "hidden", "activation", "standardize", "impute")  # what makes a network


def find_checkpoint(name: str, root: Path) -> Path:
    """Returns the path that `best` or `last` of the newest run under `root`, or the path of a checkpoint, means."""
    if name not in ("best", "last"):
        path = Path(name)
        if not path.is_file():
            found = "a folder" if path.is_dir() else "not a regular file" if path.exists() else "no such file"
            raise UserError(f"{name}: {found}; expected a checkpoint, or best or last of the newest run", "ckpt_path")
        return path
    run = newest_run(root)
    if run is None:
        raise UserError(
            f"no run under {root / RUNS} with a trained network; train one first (fit)", remedy=("ckpt_path", "FILE")
        )
    path = run / "checkpoints" / f"{name}.ckpt"
    if path.is_file():
        return path
    if path.with_name("last.ckpt").is_file():
        raise UserError(
            f"the newest run, {run}, has no {name}.ckpt: no epoch was validated", remedy=("ckpt_path", "last")
        )
    raise UserError(f"the newest run, {run}, kept no checkpoints", remedy=("ckpt_path", "FILE"))


def folder_of(path: Path) -> Path | None:
    """Returns the folder of the run that a checkpoint lies in, if it does."""
    run = path.absolute().parent.parent
    return run if path.absolute().parent.name == "checkpoints" and (run / "config.yaml").is_file() else None


def run_of(path: Path, checkpoint: dict[str, Any]) -> tuple[Path, Path]:
    """Returns the folder of the run that a checkpoint, read from this path, resumes, and the checkpoint to go on from.

    Only the latest one resumes a run. Where that was saved within an epoch, the run goes on from the epoch before.
    """
    run = path.absolute().parent.parent
    if not folder_of(path):
        raise UserError(f"{path}: lies in no run folder, so there is no run to resume ({run}/config.yaml)", "ckpt_path")
    if not isinstance(checkpoint.get("optimizer_states"), list):
        raise UserError(f"{path}: holds no state of an optimizer, so there is no run to resume", "ckpt_path")
    for key, state in checkpoint["callbacks"].items():
        if isinstance(state, dict) and state.get("best_model_score") is not None and "BestCheckpoint" in str(key):
            _check_best(path.with_name("best.ckpt"))
    last = path.with_name("last.ckpt")
    if checkpoint["global_step"] and not checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"]:
        whole = path.with_name("whole_epoch.ckpt")
        if path.name != last.name or not whole.is_file():
            found = f"{path}: was saved within an epoch, from where no run goes on exactly"
            remedy = "resume last" if path.name != last.name else f"expected {whole.name} beside it"
            raise UserError(f"{found}; {remedy}", "ckpt_path")
        return run, whole
    reached = 0
    if last != path and last.is_file():
        with suppress(UserError):  # which is damaged
            reached = epochs_done(read_checkpoint(last))
    if reached > epochs_done(checkpoint):
        raise UserError(f"{path}: the run has gone on to epoch {reached - 1}; resume last, or it is lost", "ckpt_path")
    return run, path


def _check_best(path: Path) -> None:
    try:
        read_checkpoint(path)
    except UserError as error:
        hint = "put it back, or export the weights of last and start from them"
        raise UserError(f"{error.message}; the best epoch of the run would be lost: {hint}") from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint of this project as data: nothing in it can run, its hyperparameters are plain values."""
    checkpoint: dict[str, Any] = read_torch(path, "a checkpoint")
    if isinstance(checkpoint, dict) and "layers.0.weight" in checkpoint:
        raise UserError(f"{path}: holds weights, not a checkpoint", remedy=("weights", str(path)))
    try:
        for key in FURTHER:
            checkpoint.setdefault(key, {})
        whole = all(isinstance(checkpoint[key], dict) for key in (*ENTRIES, *FURTHER))
        numbers = checkpoint["epoch"], checkpoint["global_step"], epochs_done(checkpoint)
        whole = whole and all(isinstance(number, int) for number in numbers)
        metrics = [*checkpoint["metrics"].values(), *checkpoint["callback_metrics"].values()]
        whole = whole and all(isinstance(value, float) for value in metrics)
    except (KeyError, TypeError, IndexError, AttributeError):
        whole = False
    if not whole:
        raise UserError(f"{path}: not a checkpoint of iris_lightning; expected epoch, {', '.join(ENTRIES)}")
    if not checkpoint["trained_on"]:  # no data module of this project, so that its options are others
        checkpoint["datamodule_hyper_parameters"] = {}
    for group in ("hyper_parameters", "datamodule_hyper_parameters"):
        for key, value in checkpoint[group].items():
            items = value if isinstance(value, list) else [value]
            if not all(item is None or isinstance(item, str | int | float) for item in items):
                raise UserError(f"{path}: {group}: {str(key)[:80]} is no plain value; refused")
    weights_in(checkpoint, path)
    trained_on, names = checkpoint["trained_on"], ("feature_names", "class_names")
    known = {**trained_on, **{name: checkpoint["hyper_parameters"][name] for name in names}} if trained_on else {}
    if known != trained_on or trained_on != checkpoint.get("IrisDataModule", trained_on):  # where Lightning looks
        raise UserError(f"{path}: not a checkpoint of iris_lightning: it does not know its table")
    return checkpoint


def read_trained(path: Path) -> dict[str, Any]:
    """Reads the checkpoint of a network that has been trained, be it by one step."""
    checkpoint = read_checkpoint(path)
    if checkpoint["global_step"] == 0:  # `last` of a run that was killed in its first epoch
        raise UserError(f"{path}: its network is untrained: the run was stopped before the end of its first epoch")
    return checkpoint


def epochs_done(checkpoint: dict[str, Any]) -> int:
    """Returns how many epochs a run had finished when it wrote a checkpoint."""
    done: int = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    return done


def weights_in(checkpoint: dict[str, Any], path: Path) -> Weights:
    """Returns the network's weights in a checkpoint, which must be those that its hyperparameters describe."""
    options = checkpoint["hyper_parameters"]
    if lacking := [name for name in SHAPE if name not in options]:
        raise UserError(f"{path}: not a checkpoint of this version of iris_lightning: it has no {lacking[0]}")
    state = {str(name).removeprefix("network."): tensor for name, tensor in checkpoint["state_dict"].items()}
    na_values = checkpoint["datamodule_hyper_parameters"].get("na_values")
    weights = weights_of(path, state, {**options, "na_values": na_values})
    if any(getattr(weights, name) != options[name] for name in ("hidden", "standardize", "impute")):
        raise UserError(f"{path}: not a checkpoint of iris_lightning: its weights are not those of its options")
    return weights
