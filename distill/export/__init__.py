"""The student for other programs: a folder of sentence-transformers, ONNX models, an index, a model card."""
