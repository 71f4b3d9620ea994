"""Parts of visionseq inside other libraries; each needs its library and is imported by its name."""
