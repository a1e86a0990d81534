"""Models that turn texts into vectors: their modules, their folders, and how students are made.

An encoder is a list of modules: at its beginning a Transformer (transformer.py) or a TokenTable (token_table.py), then a Pooling
(pooling.py), then modules from vectors to vectors (modules.py); modules_folder.py writes and reads them. What differs between encoders with
and without layers is asked of their first module. A way to make a student is a StudentSpec in students.py or static_student.py.
"""
