package db.migration

class V51 : BaseJavaMigration() {
    override fun migrate(context: Context) {
        val table = "leads"
        context.connection.createStatement().use {
            it.execute("""UPDATE $table SET status = 'new' WHERE status IS NULL""")
        }
    }
}
