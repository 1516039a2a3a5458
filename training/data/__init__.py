"""Annotations, frame stores, clips, augmentation, synthetic videos."""
