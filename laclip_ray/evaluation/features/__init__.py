"""Features of images and texts: read, encoded by a pool of models, and committed part by part for every protocol."""
