import { QueryInterface } from 'sequelize';

export async function up(queryInterface: QueryInterface): Promise<void> {
  await queryInterface.addColumn('leads', 'region', { type: 'text' });
  const note: string = `update of the region: see ${WIKI}`;
  await queryInterface.sequelize.query(
    'UPDATE leads ' +
      "SET region = 'eu' " +
      'WHERE region IS NULL',
  );
  await queryInterface.bulkInsert('regions', [{ code: 'eu' }]);
}
