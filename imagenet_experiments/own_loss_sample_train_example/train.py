"""A loss of one's own: settings in config.py, the loss in loss.py, the rest is public/recipes/classification.py."""

from config import CONFIGS
from loss import FocalTask

from public.recipes.classification import main

if __name__ == "__main__":
    main(CONFIGS, __file__, task=FocalTask)
