// delete from the list: UPDATE leads SET a = 1
exports.up = async (knex) => {
  await knex.schema.alterTable('leads', (table) => {
    table.text('note').comment('select, update and delete are allowed');
  });
  await knex.raw(`
    INSERT INTO notes (lead_id, body)
    SELECT lead_id, note FROM leads WHERE note <> ''
  `);
  const pattern = /it's/;
  await knex.raw('DELETE FROM ' + table + ' WHERE note IS NULL');
};

exports.down = async (knex) => {
  await knex.schema.alterTable('leads', (table) => table.dropColumn('note'));
};
