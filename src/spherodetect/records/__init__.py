"""Labels as TFRecords and TFDS data sets, with an account of every label."""
