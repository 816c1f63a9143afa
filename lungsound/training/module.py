"""The LightningModule: features, network, focal loss and schedule."""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from lungsound.data.labels import LabelSet
from lungsound.models.registry import l2_parameters
from lungsound.scoring.metric import CycleScores
from lungsound.signal.chunks import roll_and_chunk, split_into_chunks
from lungsound.signal.features import Features
from lungsound.signal.mixup import mix
from lungsound.signal.specaugment import mask_bands, mask_frames
from lungsound.training.batches import Batch
from lungsound.training.losses import distillation_loss, focal_loss
from lungsound.training.schedule import Annealing


class SnapshotModule(pl.LightningModule):
    """Trains `network` on the chunks of segments' log-mels at the learning rates of Eq. 1.

    `network` is any module from log-mels [B, 1, F, N] to logits [B, K] of the K `labels`.

    Logs train/loss, val/loss and the validation scores of whole cycles (val/score_4, val/score_2,
    val/accuracy).
    """

    def __init__(
        self,
        features: Features,
        network: nn.Module,
        annealing: Annealing,
        gamma: float,
        chunks: int,
        l2: float,
        adam_eps: float,
        validation_targets: Tensor,
        labels: LabelSet,
        test_rolls: int = 1,
    ) -> None:
        super().__init__()
        self.features, self.network, self.annealing = features, network, annealing
        self.gamma, self.chunks, self.l2, self.adam_eps = gamma, chunks, l2, adam_eps
        self.labels, self.test_rolls = labels, test_rolls
        self.validation_scores = CycleScores(validation_targets, labels)
        self.compiled: Callable[[Tensor], Tensor] | None = None

    def compile_network(self) -> None:
        """Compile the network for training on a GPU, into CUDA graphs.

        Evaluation stays as it is: a member's probabilities don't depend on how it was trained.
        """
        # The method, because a compiled module would add its weights to the state_dict again.
        forward = self.network.forward
        self.compiled = torch.compile(forward, mode="reduce-overhead", dynamic=False)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam with coupled weight decay 2λ: Keras' l2(λ) adds λ·Σw² to the loss."""
        decayed = l2_parameters(self.network)
        decayed_ids = {id(parameter) for parameter in decayed}
        others = [p for p in self.network.parameters() if id(p) not in decayed_ids]
        groups: list[dict[str, Any]] = [{"params": decayed, "weight_decay": 2 * self.l2}]
        groups.append({"params": others})
        fused = next(self.network.parameters()).is_cuda  # one kernel for all weights
        return torch.optim.Adam(groups, lr=self.annealing.max_lr, eps=self.adam_eps, fused=fused)

    def on_train_epoch_start(self) -> None:
        """Set the rate of Eq. 1 from the epoch alone: no scheduler state can get lost."""
        optimizer = self.optimizers()
        assert isinstance(optimizer, pl.core.optimizer.LightningOptimizer)
        for group in optimizer.param_groups:
            group["lr"] = self.annealing.learning_rate(self.current_epoch + 1)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """The loss of the batch's items; of mixed ones the mean of both losses, by their shares."""
        network = self.compiled or self.network
        logits = network(self.train_inputs(batch).unsqueeze(1))
        loss = self._train_loss(logits, batch)
        if "partner" in batch:
            names = {"target", "teacher"} & batch.keys()
            partners = {name: batch[name][batch["partner"]] for name in names}
            share = batch["share"]
            loss = share * loss + (1 - share) * self._train_loss(logits, partners)
        return self._log_loss("train", loss, logits)

    def validation_step(self, batch: Batch, _: int) -> Tensor:
        """The loss of all chunks; their probabilities go to their cycles' scores."""
        logits = self.network(self.eval_inputs(batch).flatten(0, 1).unsqueeze(1))
        cycle = batch["cycle"].repeat_interleave(self.chunks)
        self.validation_scores.update(torch.softmax(logits.float(), 1), cycle)
        target = batch["target"].repeat_interleave(self.chunks)
        return self._log_loss("val", focal_loss(logits.float(), target, self.gamma), logits)

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the validation cycles."""
        scores = self.validation_scores.compute()
        self.validation_scores.reset()
        for name, value in scores.items():
            if name.startswith(("score", "accuracy")):
                self.log(f"val/{name}", value)

    def predict_step(self, batch: Batch, _: int = 0) -> tuple[Tensor, Tensor]:
        """Probabilities [B · rolls · chunks, K], and the cycle of each."""
        inputs = split_into_chunks(self._log_mels(batch), self.chunks, self.test_rolls)
        parts = []
        for rolled in torch.split(inputs, self.chunks, dim=1):  # one roll at a time: memory
            logits = self.network(rolled.flatten(0, 1).unsqueeze(1))
            parts.append(logits.unflatten(0, (-1, self.chunks)))
        logits = torch.cat(parts, dim=1).flatten(0, 1)
        cycle = batch["cycle"].repeat_interleave(inputs.shape[1])
        return torch.softmax(logits.float(), 1), cycle

    def snapshot(self) -> dict[str, Any]:
        """All that a prediction needs: weights, buffers, features' statistics, the classes."""
        return {
            "network": self.network.state_dict(),
            "features": self.features.state_dict(),
            "label_order": list(self.labels.labels),
        }

    def load_snapshot(self, snapshot: dict[str, Any]) -> None:
        """Put the weights of a snapshot in place.

        Raises ValueError for other classes, and torch's errors for another network.
        """
        ours, theirs = list(self.labels.labels), snapshot["label_order"]
        if theirs != ours:
            raise ValueError(f"expected a snapshot for the classes {ours}, but got {theirs}")
        self.network.load_state_dict(snapshot["network"])
        self.features.load_state_dict(snapshot["features"])

    def train_inputs(self, batch: Batch) -> Tensor:
        """The log-mel chunk of each item, warped, rolled, mixed, masked: [B, F, N // chunks]."""
        log_mels = self._log_mels(batch)
        inputs = roll_and_chunk(log_mels, batch["roll"], batch["chunk"], self.chunks)
        if "partner" in batch:
            inputs = mix(inputs, batch["partner"], batch["share"])
        if "band_mask" in batch:
            inputs = mask_bands(inputs, batch["band_mask"])
        if "frame_mask" in batch:
            inputs = mask_frames(inputs, batch["frame_mask"])
        return inputs

    def eval_inputs(self, batch: Batch) -> Tensor:
        """Return all chunks of each segment: [B, chunks, F, N // chunks]."""
        return split_into_chunks(self._log_mels(batch), self.chunks)

    def _log_mels(self, batch: Batch) -> Tensor:
        """The log-mels [B, F, N] of the segments, unless the batch has them already."""
        if "log_mels" in batch:
            return batch["log_mels"]
        inputs = {name: batch[name] for name in ("waveforms", "alpha", "f_hi") if name in batch}
        log_mels: Tensor = self.features(**inputs)
        return log_mels

    def _train_loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """The loss to the teacher's probabilities, if the batch has them, or to the targets."""
        if "teacher" in batch:
            return distillation_loss(logits.float(), batch["teacher"])
        return focal_loss(logits.float(), batch["target"], self.gamma)

    def _log_loss(self, name: str, loss: Tensor, logits: Tensor) -> Tensor:
        self.log(f"{name}/loss", loss, on_step=False, on_epoch=True, batch_size=len(logits))
        return loss
