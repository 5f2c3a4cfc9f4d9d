-- A put while somebody waits.
settle()
local why, row, talk = change(put_of(ARGV[3], 9))
promote(talk)
local said = row and text_of(row) or '' -- before it is perhaps handed on
serve()
keep_waiters()
if why then return finish('refused', why) end
return finish('done', said)
