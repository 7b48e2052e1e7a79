"""The small tables as peewee models; ``schema`` creates them."""

from __future__ import annotations

import peewee


class SourceRow(peewee.Model):
    """A mapped source."""

    virtual_path = peewee.BlobField(primary_key=True)
    real_path = peewee.BlobField()

    class Meta:
        """Names of this table."""

        table_name = "source"
        without_rowid = True


class FolderSettingRow(peewee.Model):
    """What is set for a virtual folder, as JSON."""

    virtual_path = peewee.BlobField(primary_key=True)
    settings = peewee.TextField()

    class Meta:
        """Names of this table."""

        table_name = "folder_setting"
        without_rowid = True


class DiskRow(peewee.Model):
    """An enrolled disk; see :class:`distbackupd.model.disks.BackupDisk`."""

    id = peewee.AutoField()
    uuid = peewee.TextField(unique=True)
    name = peewee.TextField(unique=True)
    capacity = peewee.BigIntegerField()
    relative_path = peewee.BlobField()
    filesystem_uuid = peewee.TextField(null=True)
    filesystem_type = peewee.TextField(null=True)
    last_path = peewee.BlobField()
    added_at = peewee.BigIntegerField()
    last_session_at = peewee.BigIntegerField(null=True)
    catalogue_generation = peewee.BigIntegerField()
    clean = peewee.BooleanField()
    luks_uuid = peewee.TextField(null=True)
    location = peewee.TextField()
    block_size = peewee.BigIntegerField()
    largest_file = peewee.BigIntegerField()
    overhead = peewee.BigIntegerField()
    token = peewee.TextField()
    next_token = peewee.TextField()
    most_objects = peewee.BigIntegerField()
    fillable = peewee.BigIntegerField()
    folder_on = peewee.TextField()
    folder_inode = peewee.BigIntegerField()
    declined = peewee.BigIntegerField()

    class Meta:
        """Names of this table."""

        table_name = "disk"


class SessionRow(peewee.Model):
    """One session of one disk; see :class:`distbackupd.engine.ports.SessionSummary`."""

    id = peewee.AutoField()
    disk_name = peewee.TextField()
    started = peewee.BigIntegerField()
    ended = peewee.BigIntegerField(null=True)
    outcome = peewee.TextField()
    copied_objects = peewee.BigIntegerField()
    copied_bytes = peewee.BigIntegerField()
    deleted_objects = peewee.BigIntegerField()
    deleted_bytes = peewee.BigIntegerField()
    sentence = peewee.TextField()

    class Meta:
        """Names of this table."""

        table_name = "session"


class FactRow(peewee.Model):
    """A small fact: when the last scan ended, the generation."""

    key = peewee.TextField(primary_key=True)
    value = peewee.TextField()

    class Meta:
        """Names of this table."""

        table_name = "fact"
        without_rowid = True
