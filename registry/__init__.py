"""Models with a name and versions on disk. It registers finished folders and never starts anything."""
