"""ResNets on ImageNet: settings in config.py, the training loop in public/recipes/train_loop.py."""

from config import CONFIGS

from public.recipes.classification import main

if __name__ == "__main__":
    main(CONFIGS, __file__)
