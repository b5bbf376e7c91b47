"""The Trainer, with the verbs that use what was trained; their options follow from these signatures and docstrings."""

from pathlib import Path
from typing import Any

import lightning as L

from iris_lightning.checkpoints import read_checkpoint, weights_in
from iris_lightning.predictor import IrisPredictor, predictor_of

__all__ = ["IrisTrainer"]


class IrisTrainer(L.Trainer):
    """A Trainer that predicts whole tables and exports networks.

    Attributes:
        result: What the last of these verbs has to say.
    """

    result: str

    def predict(
        self,
        model: Any = None,
        dataloaders: Any = None,
        datamodule: Any = None,
        return_predictions: bool | None = None,
        ckpt_path: Any = None,
        weights_only: bool | None = None,
        output: str | None = None,
    ) -> Any:
        """Names each flower of a table, with the probability of each class.

        Args:
            model: The classifier, where there is no checkpoint.
            dataloaders: As in Lightning, without `output`.
            datamodule: An `IrisDataModule` with a `predict_path`.
            return_predictions: As in Lightning, without `output`.
            ckpt_path: Checkpoint to use: a file, or best or last of the newest run. By default best.
            weights_only: As in Lightning, without `output`.
            output: Table to write, CSV or Parquet: all input columns, `prediction`, and `probability_<class>` for each
                class. `-`, the default on the command line, is standard output.

        Raises:
            UserError: If the table does not fit the classifier, or if the output cannot be written.
        """
        if output is None:
            return super().predict(model, dataloaders, datamodule, return_predictions, ckpt_path, weights_only)
        from iris_lightning.predictions import predict_table  # here: `export` and `fit` do without

        target = datamodule.hparams["target"] or "species"
        done = predict_table(
            _predictor(model, ckpt_path), datamodule.predict_path, output, target, datamodule.hparams["decimal_comma"]
        )
        self.result = f"{'standard output' if output == '-' else output}: {done.rows} rows"
        if done.labelled:
            accuracy = done.correct / done.labelled
            self.result += f", accuracy {accuracy:.4f} ({done.correct} of {done.labelled} {target!r})"
        if done.unknown is not None:
            self.result += f"; classes that it does not know, such as {done.unknown!r}, count as wrong"
        if done.labelled is None:
            self.result += f" (no accuracy: there is no column {target!r})"
        return None

    def export(self, model: Any = None, datamodule: Any = None, ckpt_path: Any = None, *, output: str) -> None:
        """Writes the trained network as a file for others, and checks it.

        Args:
            model: The classifier, where there is no checkpoint.
            datamodule: Not needed.
            ckpt_path: Checkpoint to use: a file, or best or last of the newest run. By default best.
            output: File to write: `.pth` for plain torch, `.safetensors`, or `.onnx`, which gives probabilities.

        Raises:
            UserError: If the file cannot be written.
        """
        from iris_lightning.export import export  # here: the other verbs do without

        inputs = [Path(file) for file in (ckpt_path, getattr(model, "weights", None)) if file]
        self.result = f"{output}: {export(_predictor(model, ckpt_path), output, *inputs)}"


def _predictor(model: Any, ckpt_path: str | None) -> IrisPredictor:
    if ckpt_path:
        path = Path(ckpt_path)
        return predictor_of(weights_in(read_checkpoint(path), path), path)
    return IrisPredictor(model.network, list(model.hparams["feature_names"]), list(model.hparams["class_names"]))
