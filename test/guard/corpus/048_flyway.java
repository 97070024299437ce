package db.migration;

public class V48__Rating extends BaseJavaMigration {
    /* DELETE FROM leads */
    public void migrate(Context context) throws Exception {
        try (Statement s = context.getConnection().createStatement()) {
            char quote = '"';
            s.executeUpdate("DELETE FROM leads "
                + "WHERE rating IS NULL");
            s.execute("""
                CREATE TABLE ratings (rating int)
                """);
        }
    }
}
