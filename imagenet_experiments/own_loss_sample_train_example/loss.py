"""The focal loss as a task: all that a loss of one's own takes."""

import torch

from public.recipes.classification import ClassificationTask


class FocalTask(ClassificationTask):
    """Cross-entropy with each image weighted by (1 - its class's probability)^gamma: easy images count little."""

    gamma = 2.0

    def losses(self, logits: torch.Tensor, *labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Float32 logits [B, num_classes], int64 labels [B] -> {"focal": the batch's mean}."""
        (label,) = labels  # three of them, of two images and a share, where the row mixes images
        log_probability = logits.log_softmax(dim=1).gather(1, label[:, None])[:, 0]  # [B]
        weights = (1 - log_probability.exp()) ** self.gamma
        return {"focal": -(weights * log_probability).mean()}
