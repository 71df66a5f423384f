"""Photographs: find them, assign them to patients, decode them safely, read slide scans."""
