"""Models that turn texts into vectors: their modules, their folders, and how students are made.

An encoder is a list of modules: the Transformer at its beginning and the modules behind pooling are in modules.py, pooling is in
pooling.py; modules_folder.py writes and reads them. A way to make a student is a StudentSpec in students.py. An encoder that begins with
another module than Transformer also needs `split_modules` in modules.py, modules_folder.py, and what reads `Encoder.backbone`.
"""
