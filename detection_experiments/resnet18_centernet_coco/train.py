"""CenterNet with ResNet-18 on COCO by its own recipe; settings: config.py, loop: public/recipes/detection.py."""

from config import CONFIGS

from public.recipes.detection import main

if __name__ == "__main__":
    main(CONFIGS, __file__)
