"""ResNet-50 by stronger recipes on ImageNet: settings in config.py, loop in public/recipes/classification.py."""

from config import CONFIGS

from public.recipes.classification import main

if __name__ == "__main__":
    main(CONFIGS, __file__)
