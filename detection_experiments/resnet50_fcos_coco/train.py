"""FCOS with ResNet-50 on COCO by its improved 1x recipe; settings: config.py, loop: public/recipes/detection.py."""

from config import CONFIGS

from public.recipes.detection import main

if __name__ == "__main__":
    main(CONFIGS, __file__)
