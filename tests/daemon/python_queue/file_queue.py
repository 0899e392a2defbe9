"""A site's own queue for NAV's smsd: the interface of NAVDBQueue over a file of SQLite beside this one."""
import os
import sqlite3

FOLDER = os.path.dirname(os.path.abspath(__file__))


class FileQueue(object):
    def __init__(self):
        print("FileQueue: what a class prints is nobody's answer")

    def _run(self, sql, *values):
        if os.path.exists(os.path.join(FOLDER, "gone")):
            raise IOError("the messages are gone fishing")
        db = sqlite3.connect(os.path.join(FOLDER, "messages.db"), timeout=30)
        try:
            with db:
                cursor = db.execute(sql, values)
                return cursor.fetchall() if cursor.description else cursor.rowcount
        finally:
            db.close()

    def getusers(self, sent="N"):
        return [row[0] for row in self._run("SELECT DISTINCT phone FROM smsq WHERE sent = ? ORDER BY phone", sent)]

    def getusermsgs(self, user, sent="N"):
        sql = "SELECT id, msg, severity FROM smsq WHERE phone = ? AND sent = ? ORDER BY severity, time"
        return self._run(sql, user, sent)

    def getmsgs(self, sent="N"):
        rows = self._run("SELECT id, msg, time FROM smsq WHERE sent = ? ORDER BY time", sent)
        return [dict(id=row[0], name="somebody", msg=row[1], time=row[2]) for row in rows]

    def setsentstatus(self, identifier, sent, smsid=0):
        if str(identifier).startswith("poison"):
            raise KeyError(identifier)
        return self._run("UPDATE smsq SET sent = ?, smsid = ? WHERE id = ?", sent, smsid, identifier)

    def cancel(self, minage="0"):
        return self._run("UPDATE smsq SET sent = 'I' WHERE sent = 'N'")

    def inserttestmsgs(self, uid, phone, msg):
        sql = "INSERT INTO smsq (id, accountid, phone, msg) VALUES ((SELECT 'k' || count(*) FROM smsq), ?, ?, ?)"
        return self._run(sql, uid, phone, msg)
