"""The tables of review.sqlite, and the steps from one version of them to the next.

`user_version` of the file is the version of its tables. A file of an older version is migrated when
it is opened, after a copy of it was made. Times are ISO 8601 in UTC. Boxes are half-open, in pixels
of the image. `step` and `label_event` are only ever appended to; triggers refuse anything else.
`current_label`, `undone` and `object.visible` follow from them and are kept for speed.
"""

from __future__ import annotations

#: SQL that leads from version k to version k + 1, in order. Never change an entry; append one.
MIGRATIONS = (
    """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

    CREATE TABLE field (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        sha256 TEXT NOT NULL UNIQUE,
        patient TEXT NOT NULL,
        name TEXT NOT NULL,
        path TEXT NOT NULL,
        stamp TEXT NOT NULL DEFAULT '',
        height INTEGER NOT NULL,
        width INTEGER NOT NULL,
        present INTEGER NOT NULL DEFAULT 1,
        um_per_px REAL,
        scale_source TEXT,
        scale_confirmed INTEGER NOT NULL DEFAULT 0,
        scale_line TEXT,
        bar TEXT,
        strip_rows INTEGER,
        rbc_diameter_px REAL,
        accepted INTEGER,
        reason TEXT NOT NULL DEFAULT '',
        run_id INTEGER REFERENCES run (id),
        model_run_id INTEGER REFERENCES run (id)
    );

    CREATE TABLE label_set (
        id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE
    );
    CREATE TABLE label (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        set_id INTEGER NOT NULL REFERENCES label_set (id),
        name TEXT NOT NULL,
        colour TEXT NOT NULL,
        key TEXT,
        meaning TEXT NOT NULL CHECK (meaning IN ('class', 'unknown', 'ignore')),
        position INTEGER NOT NULL,
        UNIQUE (set_id, name),
        UNIQUE (set_id, key)
    );

    CREATE TABLE run (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        method TEXT NOT NULL,
        params TEXT NOT NULL,
        reviewer TEXT NOT NULL,
        at TEXT NOT NULL
    );

    -- `found`: the last detection found it. `base`: visible where no step says otherwise.
    CREATE TABLE object (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        field_id INTEGER NOT NULL REFERENCES field (id),
        drawn INTEGER NOT NULL,
        found INTEGER NOT NULL,
        base INTEGER NOT NULL,
        visible INTEGER NOT NULL,
        outline_id INTEGER REFERENCES outline (id)
    );
    CREATE INDEX object_field ON object (field_id, visible);

    -- Every outline that an object ever had; `mask` is COCO's run lengths of the box alone.
    CREATE TABLE outline (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        object_id INTEGER NOT NULL REFERENCES object (id),
        run_id INTEGER REFERENCES run (id),
        ymin INTEGER NOT NULL, xmin INTEGER NOT NULL,
        ymax INTEGER NOT NULL, xmax INTEGER NOT NULL,
        mask TEXT NOT NULL,
        polygon TEXT NOT NULL,
        area_px REAL NOT NULL,
        cell_id INTEGER,
        class_name TEXT,
        confidence REAL,
        p_spherocyte REAL,
        countable INTEGER,
        measurements TEXT NOT NULL
    );
    CREATE INDEX outline_object ON outline (object_id);

    CREATE TABLE step (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        client_key TEXT NOT NULL UNIQUE,
        reviewer TEXT NOT NULL,
        kind TEXT NOT NULL,
        at TEXT NOT NULL,
        source TEXT NOT NULL,
        seen TEXT NOT NULL CHECK (seen IN ('open', 'blind')),
        target INTEGER REFERENCES step (id)
    );
    CREATE INDEX step_reviewer ON step (reviewer, id);
    CREATE TABLE label_event (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        step_id INTEGER NOT NULL REFERENCES step (id),
        kind TEXT NOT NULL CHECK (kind IN ('label', 'show', 'hide', 'answer', 'settle')),
        object_id INTEGER REFERENCES object (id),
        set_id INTEGER REFERENCES label_set (id),
        label_id INTEGER REFERENCES label (id),
        review_id INTEGER REFERENCES review (id),
        place INTEGER,
        answer TEXT,
        queue_id INTEGER REFERENCES queue (id)
    );
    CREATE INDEX event_object ON label_event (object_id, id);
    CREATE INDEX event_step ON label_event (step_id);
    CREATE INDEX event_label ON label_event (label_id);
    CREATE INDEX event_review ON label_event (review_id, place, id);
    CREATE INDEX event_queue ON label_event (queue_id, id);

    CREATE TRIGGER step_is_kept BEFORE DELETE ON step
        BEGIN SELECT RAISE (ABORT, 'step is append-only'); END;
    CREATE TRIGGER step_is_fixed BEFORE UPDATE ON step
        BEGIN SELECT RAISE (ABORT, 'step is append-only'); END;
    CREATE TRIGGER label_event_is_kept BEFORE DELETE ON label_event
        BEGIN SELECT RAISE (ABORT, 'label_event is append-only'); END;
    CREATE TRIGGER label_event_is_fixed BEFORE UPDATE ON label_event
        BEGIN SELECT RAISE (ABORT, 'label_event is append-only'); END;
    CREATE TRIGGER outline_is_kept BEFORE DELETE ON outline
        BEGIN SELECT RAISE (ABORT, 'outlines are kept'); END;
    CREATE TRIGGER object_is_kept BEFORE DELETE ON object
        BEGIN SELECT RAISE (ABORT, 'objects are kept'); END;

    CREATE TABLE undone (step_id INTEGER PRIMARY KEY REFERENCES step (id));
    CREATE TABLE current_label (
        object_id INTEGER NOT NULL REFERENCES object (id),
        set_id INTEGER NOT NULL REFERENCES label_set (id),
        label_id INTEGER NOT NULL REFERENCES label (id),
        step_id INTEGER NOT NULL REFERENCES step (id),
        PRIMARY KEY (object_id, set_id)
    ) WITHOUT ROWID;
    CREATE INDEX current_label_label ON current_label (label_id);

    CREATE TABLE queue (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        field_id INTEGER NOT NULL REFERENCES field (id),
        run_id INTEGER NOT NULL REFERENCES run (id),
        kind TEXT NOT NULL CHECK (kind IN ('split', 'merge', 'changed', 'gone')),
        old TEXT NOT NULL,
        new TEXT NOT NULL,
        settled_by_run INTEGER REFERENCES run (id)
    );
    CREATE INDEX queue_field ON queue (field_id);

    -- The cells that a blind review is drawn from are frozen with it.
    CREATE TABLE review (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        patient TEXT NOT NULL,
        seed INTEGER NOT NULL,
        at TEXT NOT NULL,
        diameter_px REAL NOT NULL,
        cells TEXT NOT NULL
    );
    CREATE TABLE review_part (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        review_id INTEGER NOT NULL REFERENCES review (id),
        shown INTEGER NOT NULL,
        batches TEXT NOT NULL,
        items TEXT NOT NULL
    );
    CREATE INDEX review_part_review ON review_part (review_id);

    CREATE TABLE patient_score (patient TEXT PRIMARY KEY, at TEXT NOT NULL, score TEXT NOT NULL);

    CREATE TABLE classifier (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        set_id INTEGER NOT NULL REFERENCES label_set (id),
        at TEXT NOT NULL,
        reviewer TEXT NOT NULL,
        model TEXT NOT NULL,
        figures TEXT NOT NULL
    );
    CREATE TABLE prediction (
        object_id INTEGER PRIMARY KEY REFERENCES object (id),
        classifier_id INTEGER NOT NULL REFERENCES classifier (id),
        label_id INTEGER NOT NULL,
        p REAL NOT NULL,
        doubt REAL NOT NULL
    );
    CREATE TABLE validation_group (
        kind TEXT NOT NULL CHECK (kind IN ('patient', 'field')),
        name TEXT NOT NULL,
        validation INTEGER NOT NULL,
        PRIMARY KEY (kind, name)
    ) WITHOUT ROWID;

    CREATE TABLE change (
        id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, ref INTEGER NOT NULL
    );
    """,
    # The classifier of each label set predicts for itself.
    """
    CREATE TABLE prediction_of_set (
        object_id INTEGER NOT NULL REFERENCES object (id),
        set_id INTEGER NOT NULL REFERENCES label_set (id),
        classifier_id INTEGER NOT NULL REFERENCES classifier (id),
        label_id INTEGER NOT NULL,
        p REAL NOT NULL,
        doubt REAL NOT NULL,
        PRIMARY KEY (object_id, set_id)
    ) WITHOUT ROWID;
    INSERT INTO prediction_of_set
        SELECT p.object_id, k.set_id, p.classifier_id, p.label_id, p.p, p.doubt
        FROM prediction p JOIN classifier k ON k.id = p.classifier_id;
    DROP TABLE prediction;
    ALTER TABLE prediction_of_set RENAME TO prediction;
    DELETE FROM prediction WHERE label_id NOT IN (SELECT id FROM label);
    CREATE INDEX prediction_label ON prediction (label_id);
    """,
)
VERSION = len(MIGRATIONS)

__all__ = ["MIGRATIONS", "VERSION"]
