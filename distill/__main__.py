import sys

from distill.cli.main import main

sys.exit(main())
