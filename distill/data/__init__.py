"""RetrievalData, the LightningDataModule of a student, and its steps: queries, negatives, batches. datamodule.py is the place to begin."""
