"""Trainings in a run folder: started, continued, finished. train.py trains a student, teach.py a teacher, sweep.py several."""
