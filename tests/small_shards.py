"""`python -m small_shards VERB ...`: a verb of distill that writes shards of 16 rows."""

import sys

import distill.vectors.store_writer
from distill.cli.main import main

if __name__ == "__main__":
    distill.vectors.store_writer.ROWS_PER_SHARD = 16
    sys.exit(main())
