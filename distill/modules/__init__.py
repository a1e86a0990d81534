"""LightningModules: student.py trains a student; dual_teacher.py, cross_teacher.py and query_generator.py train what it learns from."""
