"""ResNet-18 on CIFAR-100 in 10 epochs: settings in config.py, training loop in public/recipes/classification.py."""

from config import CONFIGS

from public.recipes.classification import main

if __name__ == "__main__":
    main(CONFIGS, __file__)
