"""`spherodetect app`: review, label, train and correct in the browser, and REST on the same server.

A project is a folder. Its photographs stay as they are; everything that people do is kept in
review.sqlite beside them (see `store`). The browser talks to `server` by paths below api/, other
programs by paths below v1/. One worker thread does everything that takes long (see `jobs`).
Needs the extra [app].
"""

from __future__ import annotations
