MESSAGES = {
    "hint": "Update the lead before you delete it",
    "menu": "Delete from cart",
    "long": "insert into the form what the customer said, then update",
    "close": "close modal",
    "select": "select all",
}


def upgrade(op):
    op.add_column("leads", "update")
    op.create_table("selections")
