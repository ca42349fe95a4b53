import sys

from export.pictures.collection import main

if __name__ == "__main__":
    sys.exit(main())
