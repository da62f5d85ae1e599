"""The dynamical cross-entropy in a Lightning module: pip install 'tiltcli[lightning]'."""

import lightning
import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

import tiltcli


class Classifier(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(
            torch.nn.Linear(64, 6), torch.nn.ReLU(), torch.nn.Linear(6, 10)
        )
        # As a submodule it is saved in every checkpoint, with its step.
        self.loss = tiltcli.DynamicalCrossEntropy(num_classes=10, amplitude=3, period=50)

    def training_step(self, batch, _):
        X, y = batch
        return self.loss(self.net(X), y)

    def optimizer_step(self, *args, **kwargs):
        super().optimizer_step(*args, **kwargs)
        self.loss.step()  # once per update, however many batches it gathers

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.2)


X, y = load_digits(return_X_y=True)
digits = TensorDataset(torch.tensor(X / 16, dtype=torch.float32), torch.tensor(y))
batches = DataLoader(digits, batch_size=128)
quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}

lightning.seed_everything(0)
trainer = lightning.Trainer(max_epochs=5, accelerator="cpu", enable_checkpointing=False, **quiet)
trainer.fit(Classifier(), batches)
trainer.save_checkpoint("mid-pulse.ckpt", weights_only=False)

trainer = lightning.Trainer(max_epochs=20, accelerator="cpu", enable_checkpointing=False, **quiet)
classifier = Classifier()
trainer.fit(classifier, batches, ckpt_path="mid-pulse.ckpt", weights_only=True)
accuracy = (classifier.net(digits.tensors[0]).argmax(dim=1) == digits.tensors[1]).float().mean()
print(f"{int(classifier.loss.steps)} steps, training accuracy {accuracy:.3f}")
