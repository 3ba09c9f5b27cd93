"""Write genres into music files, and take them back: plans, tag writers, the journal, undo."""
