"""Model bundles: data only. One folder a bundle."""
