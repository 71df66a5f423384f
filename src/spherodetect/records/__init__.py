"""Records: labelled fields as TFRecords and TFDS data sets, with the account of every label."""
