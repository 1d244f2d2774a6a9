"""The four published pipelines, run for real, beside what their authors published."""
