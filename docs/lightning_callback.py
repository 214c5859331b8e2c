"""Tickets of a LightningModule: `Trainer.fit` as the training that `lottery_ticket.find` prunes and rewinds around.

It needs `pip install lightning`; `python docs/lightning_callback.py` runs it.
"""

import logging
import warnings

import lightning
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, TensorDataset

import lottery_ticket

LENGTH, CLIPS, BATCH = 64, 320, 32
STEPS = 8  # of an epoch: 256 clips, 32 a batch


class HoldMask(lightning.Callback):
    """Keeps pruned weights at zero during `Trainer.fit`, whatever optimisers the module configures.

    Args:
        mask: parameter name → bool tensor, as of a `Ticket` or a `Job`.

    Attributes:
        held: whether they were zero after every batch.
    """

    def __init__(self, mask: dict[str, Tensor]) -> None:
        self.mask, self.held = mask, True

    def on_train_batch_start(self, trainer, module, *_) -> None:
        """Before a batch: at first, and where something else has moved them."""
        with torch.no_grad():
            for name, kept in self.mask.items():
                module.get_parameter(name).mul_(kept.to(module.device))

    def on_before_optimizer_step(self, trainer, module, optimizer) -> None:
        """No optimiser's state is to know of them."""
        for name, kept in self.mask.items():
            if (gradient := module.get_parameter(name).grad) is not None:
                gradient.mul_(kept.to(module.device))

    def on_train_batch_end(self, trainer, module, *_) -> None:
        """After a step that moved them without gradient, as weight decay of some optimisers does."""
        with torch.no_grad():
            for name, kept in self.mask.items():
                value, pruned = module.get_parameter(name), ~kept.to(module.device)
                self.held &= not value[pruned].any()
                value.masked_fill_(pruned, 0)


class Denoiser(lightning.LightningModule):
    """Takes the noise off short clips of sound."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(1, 16, 9, padding=4), nn.ReLU(), nn.Conv1d(16, 16, 9, padding=4), nn.ReLU(), nn.Conv1d(16, 1, 1)
        )

    def forward(self, clips: Tensor) -> Tensor:
        """Clips N×1×LENGTH."""
        return self.net(clips)

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        """The loss of a batch of noisy clips and clean ones."""
        noisy, clean = batch
        loss = mse_loss(self(noisy), clean)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam with weight decay."""
        return torch.optim.AdamW(self.parameters(), lr=0.01)


def clips() -> TensorDataset:
    """Sines of several pitches with noise, and without."""
    source = torch.Generator().manual_seed(0)
    pitch, phase = torch.rand(2, CLIPS, 1, 1, generator=source)
    clean = torch.sin(torch.arange(LENGTH) * (0.1 + 0.5 * pitch) + 6.3 * phase)
    return TensorDataset(clean + 0.5 * torch.randn(clean.shape, generator=source), clean)


def main(rounds: int = 8, epochs: int = 10, seeds: int = 3) -> lottery_ticket.Result:
    """Find tickets of the denoiser, judged by the signal-to-noise ratio that it leaves, in decibels."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    sounds = clips()

    def train(module: Denoiser, job: lottery_ticket.Job) -> dict[str, float]:
        hold = HoldMask(job.mask)
        trainer = lightning.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            callbacks=[hold],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        training = torch.utils.data.Subset(sounds, range(256))
        trainer.fit(module, DataLoader(training, BATCH, shuffle=True, generator=job.generator()))
        return {"train_loss": trainer.callback_metrics["train_loss"].item(), "held": float(hold.held)}

    @torch.no_grad()
    def evaluate(module: Denoiser) -> dict[str, float]:
        noisy, clean = sounds[256:]
        left = module(noisy) - clean
        return {"decibels": float(10 * torch.log10(clean.square().mean() / left.square().mean()))}

    return lottery_ticket.find(
        Denoiser, train=train, evaluate=evaluate, score=("decibels", -30, 30), rounds=rounds, seeds=seeds,
        dataset="sines", prune_rate=0.3,
    )  # fmt: skip


if __name__ == "__main__":
    found = main()
    for record in found.rounds:
        print(record.arm, record.seed, record.round, f"{record.measured['decibels']:.2f} dB")
