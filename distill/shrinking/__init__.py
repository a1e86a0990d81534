"""The whole job in one function: a teacher and texts in; student, verdict, report and export out."""
