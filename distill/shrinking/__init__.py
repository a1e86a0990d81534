"""The whole job in one function: a teacher and texts in; student, verdict, report and export out.

shrink.py lists its steps: request.py checks what was asked for, texts.py and crops.py make the texts, vectors.py the teacher's vectors,
training.py and budget.py the student, advice.py says what to do next; continuing.py and replay.py are for the next month.
"""
