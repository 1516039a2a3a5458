"""Hold training data: annotations, clips, augmentation, datasets, folds."""
