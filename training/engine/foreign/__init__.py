"""Models from elsewhere: read with a bound on everything, checked, made into folders of ours."""
