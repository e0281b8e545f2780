"""What a training will hold in memory, by arithmetic and by what earlier ones held."""
