"""Pages of pipelines: the gallery and one pipeline, the editor, a run."""
