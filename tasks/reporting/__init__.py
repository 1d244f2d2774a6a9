"""What a run tells people: the report page, the run summary and the table in the terminal.

Reads committed results only, through the stage contract, and never stops at what is missing: a
report is wanted most on the night when half of the stages crashed.
"""
