-- A put while somebody waits.
settle()
local why, row, talk = change(put_at(4))
promote(talk)
local state, said = row and row.id, row and text_of(row)
serve()
keep_waiters()
if why then return finish('refused', why) end
return finish('done', state and said or '')
